/* A formula that is wider than the page scrolls by itself; then it can be reached by keyboard. */
function reach() {
  for (const formula of document.querySelectorAll('.equation, .long')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute('tabindex');
  }
}
addEventListener('load', reach);
addEventListener('resize', reach);
