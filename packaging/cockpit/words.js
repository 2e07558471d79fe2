// Words for a denial. It needs no browser.

// Returns what was denied: the path, capability or device of an access, or the call.
export function nameDenied(denial) {
    return denial.access ? denial.access.name : denial.call || "SIGSYS";
}

// Returns the first words of a finding.
export function nameCall(denial) {
    return denial.call ? `${denial.call}(2)` : "A process died of SIGSYS";
}

// Returns what the unit's sandbox withholds, as a sentence; null for a call that a filter denied.
export function describeAccess(denial) {
    return denial.access ? `${denial.access.words}.` : null;
}

// Returns what a line does to what was denied.
export function describeLine(directive, denied) {
    return directive.does ? directive.does.join(denied) : directive.why;
}
