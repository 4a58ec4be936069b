// Before anything is drawn: the theme that was chosen last, where the browser keeps such things.
const kept = {
  get() {
    try {
      return localStorage.getItem("mmrec-theme");
    } catch {
      return null; // some browsers keep nothing for files
    }
  },
  set(theme) {
    try {
      localStorage.setItem("mmrec-theme", theme);
    } catch {
      // it then holds until the page is left
    }
  },
};
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
root.classList.add("scripted");
if (["light", "dark"].includes(kept.get())) root.dataset.theme = kept.get();

const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function tell() {
  const button = document.getElementById("theme");
  button.hidden = false;
  button.textContent = isDark() ? "Light theme" : "Dark theme";
  document.dispatchEvent(new Event("themechange"));
}

document.addEventListener("DOMContentLoaded", () => {
  tell();
  system.addEventListener("change", tell);
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    kept.set(root.dataset.theme);
    tell();
  });
});
