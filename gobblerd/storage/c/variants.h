/* Functions of vectors, compiled for several kinds of processors, of which the right one is chosen when loaded. */

#ifndef GOBBLERD_VARIANTS_H
#define GOBBLERD_VARIANTS_H

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && (defined(__clang__) ? __clang_major__ >= 17 : __GNUC__ >= 12)
#define VARIANTS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VARIANTS
#endif

#define INLINE static inline __attribute__((always_inline))

#endif
