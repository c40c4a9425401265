/* An equation that is wider than the page scrolls by itself; then it can be reached by keyboard. */
function reach() {
  for (const equation of document.querySelectorAll('.equation')) {
    if (equation.scrollWidth > equation.clientWidth) equation.tabIndex = 0;
    else equation.removeAttribute('tabindex');
  }
}
addEventListener('load', reach);
addEventListener('resize', reach);
