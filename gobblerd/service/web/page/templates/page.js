// Follows what the daemon does: asks for the same page again, and shows what has changed.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main) return;
  const state = document.getElementById("state");
  let period = Number(main.dataset.live);

  function isInUse() {
    const selection = document.getSelection();
    return document.hidden || (selection && !selection.isCollapsed);
  }

  function replace(element, next) {
    if (element.innerHTML === next.innerHTML) return;
    const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    element.innerHTML = next.innerHTML;
    if (focused) [...element.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
  }

  async function look() {
    if (!isInUse()) {
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const next = page.querySelector("main");
        if (next) {
          replace(main, next);
          const nextState = page.getElementById("state");
          if (state.textContent !== nextState.textContent) state.textContent = nextState.textContent;
          state.className = nextState.className;
          period = Number(next.dataset.live);
        }
      } catch {
        state.textContent = "the daemon does not answer; what is shown is old";
        state.className = "bad";
      }
    }
    if (period) setTimeout(look, period * 1000);
  }

  setTimeout(look, period * 1000);
})();
