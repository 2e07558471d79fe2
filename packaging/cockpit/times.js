// Times in words.

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

export function age(time, now = Date.now()) {
    const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
    if (Number.isNaN(seconds))
        return time || "";
    for (const [unit, length] of UNITS) {
        const count = Math.floor(seconds / length);
        if (count > 0)
            return `${count} ${unit}${count > 1 ? "s" : ""} ago`;
    }
    return "just now";
}

export function local(time) {
    const parsed = new Date(time);
    return Number.isNaN(parsed.getTime()) ? String(time || "") : parsed.toLocaleString();
}

export function plural(count, noun) {
    return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
