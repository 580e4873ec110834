// The light or dark theme: that of the system, or the user's choice, which is stored if the browser allows it.

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
}

function startTheme(page) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let kept = null;
  try {
    kept = localStorage.getItem("maskdsl-theme");
  } catch {
    // pages opened as files may have no storage
  }
  const system = () => (dark.matches ? "dark" : "light");
  const set = (theme) => {
    setTheme(theme);
    if (page()) page().colour();
  };
  set(kept ?? system());
  dark.addEventListener("change", () => kept ?? set(system()));
  byId("theme").addEventListener("click", () => {
    kept = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("maskdsl-theme", kept);
    } catch {
      // without storage the choice is not kept
    }
    set(kept);
  });
}
