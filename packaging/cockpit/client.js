// Runs `harden-why … --json` with the rights of the person who is logged in: with administrative access where Cockpit
// has it, otherwise without. This is the page's only source of data.

/* global cockpit */

// A command failed, or harden-why is missing.
export class ClientError extends Error {
    constructor(message, problem) {
        super(message);
        this.problem = problem;
    }
}

function spawn(args, manager) {
    // Units of the person's own manager are changed without administrative access.
    const superuser = manager && manager !== "system" ? undefined : "try";
    return cockpit.spawn(["harden-why", "--json", "--quiet", ...args], { superuser, err: "message" });
}

function parse(text) {
    try {
        return JSON.parse(text);
    } catch {
        return null;
    }
}

function explain(exception) {
    if (exception.problem === "not-found")
        return new ClientError("The program harden-why is not installed on this machine.", "not-found");
    const text = exception.problem && !exception.exit_status ? exception.problem : exception.message;
    return new ClientError(text || "harden-why failed without a message", exception.problem);
}

// Runs a command and returns the object that it prints.
export function run(args, manager) {
    return start(args, manager).answer;
}

// Starts a command. `answer` is the object that it prints; `end` ends the command early.
export function start(args, manager) {
    let output = "";
    const process = spawn(args, manager);
    process.stream(data => { output += data });
    const answer = new Promise((resolve, reject) => {
        const finish = exception => {
            const object = parse(output);
            if (object && object.error)
                reject(new ClientError(object.error, object.nothing_to_do ? "nothing-to-do" : "failed"));
            else if (object)
                resolve(object);
            else
                reject(exception ? explain(exception) : new ClientError("harden-why printed no JSON", "protocol"));
        };
        process.then(() => finish(null), finish);
    });
    return { answer, end: () => process.close("terminated") };
}

// Follows denials, calling `show` with each object. Returns a function that ends it. Waits longer after each failure.
export function follow(args, show, onState) {
    const PAUSES = [1000, 2000, 5000, 10000];
    let process, timer;
    let failures = 0;
    let isEnded = false;
    const begin = () => {
        let rest = "";
        process = spawn(["follow", ...args]);
        // `follow` fails at once if it cannot listen.
        const alive = setTimeout(() => { failures = 0; onState(true) }, 500);
        process.stream(data => {
            const lines = (rest + data).split("\n");
            rest = lines.pop();
            lines.map(parse).filter(object => object && "new" in object).forEach(show);
        });
        const again = exception => {
            clearTimeout(alive);
            if (isEnded)
                return;
            onState(false, exception ? explain(exception) : null);
            timer = setTimeout(begin, PAUSES[Math.min(failures++, PAUSES.length - 1)]);
        };
        process.then(() => again(null), again);
    };
    begin();
    return () => {
        isEnded = true;
        clearTimeout(timer);
        process.close("terminated");
    };
}

// The options that choose the manager of a unit.
export function managerOption(manager) {
    return manager === "system" ? ["--system"] : manager ? ["--user"] : [];
}
