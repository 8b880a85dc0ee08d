"""The filesystem as the registry and the staging side both use it: durable writes, descriptor walks, time."""
