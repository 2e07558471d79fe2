// Words for a denial. It needs no browser.

// Returns what was denied: the path, capability or device of an access, or the call.
export function nameDenied(denial) {
    return denial.access ? denial.access.name : denial.call || "SIGSYS";
}

// Returns the first words of a finding.
export function nameCall(denial) {
    return denial.call ? `${denial.call}(2)` : "A process died of SIGSYS";
}

// Returns how often a denial happened, and how long ago.
export function describeTimes(count, age) {
    return count === 1 ? `once, ${age}` : `${count} times, last ${age}`;
}

// Returns how a unit failed that was denied nothing.
export function describeFailure(unit, { status, step, message }) {
    return `${unit} failed: ${step ? `exit status ${status}/${step}` : message || "unknown"}`;
}

// Returns what comes before the command that shows the cause of a failure.
export function introduceCheck({ check, possible_causes: causes }) {
    const changes = causes.some(cause => cause.fix || cause.lines_to_try);
    if (check.includes("harden-why "))
        return changes ? "To confirm the cause:" : "To watch a start and confirm the cause:";
    return changes ? "Change the line, then:" : "Change the line and restart to confirm the cause:";
}

// Returns what the unit's sandbox withholds, as a sentence; null for a call that a filter denied.
export function describeAccess(denial) {
    return denial.access ? `${denial.access.words}.` : null;
}

// Returns what a line does to what was denied.
export function describeLine(directive, denied) {
    return directive.does ? directive.does.join(denied) : directive.why;
}
