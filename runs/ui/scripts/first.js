// Before anything is drawn: the chosen colours, and the nonce that Bokeh's style elements need under the page's policy.
(() => {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const { nonce } = document.currentScript;
  const create = document.createElement;
  document.createElement = function createElement(name, options) {
    const made = create.call(document, name, options);
    if (made instanceof HTMLStyleElement) made.nonce = nonce;
    return made;
  };
})();
