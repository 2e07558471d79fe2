// Denials by hour. An incident has its count, first and latest time: the hours between are known only as a sum.

import { drawing, element } from "./elements.js";
import { plural } from "./times.js";

const HOUR = 3600 * 1000;
const SHOWN = 24;
const HEIGHT = 60;

// Returns for each of the last 24 hours, oldest first, the denials that certainly fell into it, and their start. `between`
// counts those that happened between the first and the latest sighting of an incident, in an unknown hour. `before` counts
// the rest of incidents that ended earlier.
export function countByHour(denials, now) {
    const end = (Math.floor(now / HOUR) + 1) * HOUR;
    const start = end - SHOWN * HOUR;
    const hours = Array.from({ length: SHOWN }, (_, index) => ({ start: start + index * HOUR, count: 0 }));
    let between = 0;
    let before = 0;
    for (const { first, last, count } of denials) {
        const [from, to] = [first || last, last || first].map(time => Date.parse(time));
        if (Number.isNaN(from) || Number.isNaN(to))
            continue;
        const add = (time, number) => {
            const hour = hours[Math.floor((time - start) / HOUR)];
            if (hour)
                hour.count += number;
            else
                before += number;
        };
        if (Math.floor(from / HOUR) === Math.floor(to / HOUR)) {
            add(to, count);
        } else {
            add(from, 1);
            add(to, 1);
            between += Math.max(0, count - 2);
        }
    }
    return { hours, between, before };
}

function hourName(hour) {
    return new Date(hour.start).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// Returns the most denials of one hour, for the scale of bars.
export function mostInAnHour(hours) {
    return Math.max(1, ...hours.map(hour => hour.count));
}

// Draws a bar for each hour. The words say the same to screen readers.
function bars(hours, most) {
    return drawing("svg", { viewBox: `0 0 ${SHOWN * 10} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        hours.map((hour, index) => {
            const height = hour.count === 0 ? 1 : Math.max(3, Math.round(HEIGHT * hour.count / most));
            const kind = hour.count === 0 ? "hw-no-bar" : "hw-bar";
            return drawing(`rect.${kind}`, { x: index * 10 + 1, y: HEIGHT - height, width: 8, height },
                drawing("title", {}, `${hourName(hour)}: ${plural(hour.count, "denial")}`));
        }));
}

function words(hours) {
    const seen = hours.filter(hour => hour.count > 0);
    return seen.length === 0
        ? "No denials in the last 24 hours."
        : `Denials in the last 24 hours: ${seen.map(hour => `${hour.count} from ${hourName(hour)}`).join(", ")}.`;
}

export function hoursChart(denials, now = Date.now()) {
    const { hours, between, before } = countByHour(denials, now);
    const more = [
        between > 0 && ` ${between} more between the first and the latest denial, in hours that are not stored.`,
        before > 0 && ` ${before} before.`,
    ];
    return element("figure.hw-hours", {}, bars(hours, mostInAnHour(hours)), element("figcaption", {}, words(hours), more));
}

// Bars of one unit in a table of units that have one scale.
export function hoursOfRow(hours, most) {
    return element("span.hw-row-hours", {}, bars(hours, most), element("span.hw-unseen", {}, words(hours)));
}
