// A line of a unit file with its deciding word marked.

import { breakable, element } from "./elements.js";
import { describeLine } from "./words.js";

export function snippet(directive, denied) {
    const place = directive.file ? `${directive.file}:${directive.line}` : `${directive.directive}=`;
    const { source } = directive;
    return element("figure.hw-snippet", {},
        element("figcaption", {}, breakable(place)),
        source && element("pre", {}, source.before, element("mark", {}, source.pointed), source.after),
        element("p.hw-why", {}, describeLine(directive, denied)));
}
