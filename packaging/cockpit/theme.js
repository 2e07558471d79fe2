// Follows the light or dark style that Cockpit's shell stores and announces.

const DARK_CLASSES = ["pf-theme-dark", "pf-v5-theme-dark", "pf-v6-theme-dark"];

function isDark(style) {
    if (style === "dark" || style === "light")
        return style === "dark";
    return window.matchMedia("(prefers-color-scheme: dark)").matches;
}

export function followTheme() {
    const set = style => {
        const dark = isDark(style || window.localStorage.getItem("shell:style"));
        DARK_CLASSES.forEach(name => document.documentElement.classList.toggle(name, dark));
    };
    window.addEventListener("storage", event => { if (event.key === "shell:style") set(event.newValue) });
    window.addEventListener("cockpit-style", event => set(event.detail && event.detail.style));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => set());
    set();
}
