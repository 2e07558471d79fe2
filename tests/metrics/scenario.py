"""A unit dies, node_exporter and Prometheus read the metrics, the shipped rule fires, and each panel's query answers."""

import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request

STAGE = pathlib.Path(os.environ["STAGE"])
CLIENT = os.path.join(os.environ["HARDEN_WHY"], "harden-why")
SOURCES = pathlib.Path(os.environ["SOURCES"])
PATIENCE = 60
PROMETHEUS, NODE_EXPORTER, DIRECT = 9391, 9392, 9393
textfiles = STAGE / "textfiles"


def kill_a_unit():
    unit = "[Service]\nSlice=system.slice\nType=oneshot\nExecStart=/bin/uname\nSystemCallFilter=~uname\n"
    (STAGE / "units/dies.service").write_text(unit)
    subprocess.run(["systemctl", "--user", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "--user", "start", "dies.service"], stderr=subprocess.DEVNULL, check=False)
    wait_for(lambda: "dies.service" in client("--json"), "no denial of dies.service")


def client(*arguments):
    return subprocess.run([CLIENT, "--quiet", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def write_textfile():
    """Starts the shipped service, with the paths of the stage. PrivateTmp= would hide the stage from it."""
    unit = (SOURCES / "../../systemd/harden-why-metrics.service").read_text()
    unit = unit.replace("/usr/bin/harden-why", CLIENT).replace("/var/lib/prometheus/node-exporter", str(textfiles))
    (STAGE / "units/harden-why-metrics.service").write_text(unit)
    drop_in = STAGE / "units/harden-why-metrics.service.d/stage.conf"
    drop_in.parent.mkdir()
    bus = os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
    drop_in.write_text(f"[Service]\nPrivateTmp=no\nEnvironment=DBUS_SYSTEM_BUS_ADDRESS={bus}\nStandardError=append:{STAGE}/metrics.log\n")
    subprocess.run(["systemctl", "--user", "daemon-reload"], check=True)
    started = subprocess.run(["systemctl", "--user", "start", "harden-why-metrics.service"], check=False)
    state = ["systemctl", "--user", "show", "harden-why-metrics.service", "-pExecMainCode,ExecMainStatus"]
    assert started.returncode == 0, (
        subprocess.run(state, stdout=subprocess.PIPE, text=True, check=False).stdout
        + (STAGE / "metrics.log").read_text()
        + client("harden-why-metrics.service")
    )
    print("ok: the shipped service writes the file under its own sandbox")


class OpenMetrics(http.server.BaseHTTPRequestHandler):
    """Serves the text of standard output, so that Prometheus's own parser of OpenMetrics judges it."""

    def do_GET(self):
        body = client("metrics").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def start_prometheus():
    configuration = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{SOURCES}/harden-why.rules.yml]
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{NODE_EXPORTER}"]}}]
  - job_name: direct
    scrape_interval: 5s
    scrape_timeout: 5s
    static_configs: [{{targets: ["127.0.0.1:{DIRECT}"]}}]
"""
    (STAGE / "prometheus.yml").write_text(configuration)
    return subprocess.Popen(
        ["prometheus", f"--config.file={STAGE}/prometheus.yml", f"--storage.tsdb.path={STAGE}/tsdb",
         f"--web.listen-address=127.0.0.1:{PROMETHEUS}", "--log.level=error"],
    )  # fmt: skip


def ask(path, **parameters):
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PROMETHEUS}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        if error.code == 503:  # It starts.
            return None
        raise AssertionError(f"{parameters}: {error.read()}") from error
    except OSError:
        return None


def wait_for(look, otherwise):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(otherwise)


def value(query):
    result = (ask("query", query=query) or {}).get("result")
    return float(result[0]["value"][1]) if result else None


def check_text():
    text = (textfiles / "harden-why.prom").read_text()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"promtool: {checked.stdout}{checked.stderr}\n{text}"
    series = [line for line in text.splitlines() if line.startswith("harden_why_denials_total{")]
    wanted = {'name="dies.service"', 'manager="system"', 'kind="call"', 'what="uname"', 'directive="SystemCallFilter"'}
    assert any(all(label in line for label in wanted) for line in series), text
    print("ok: promtool finds nothing in the metrics, and the denial is one of them")


def check_alert():
    firing = 'ALERTS{alertname="HardenWhyDenial", alertstate="firing", name="dies.service"}'
    wait_for(lambda: value(firing), "the shipped rule does not fire")
    print("ok: HardenWhyDenial fires for dies.service")


def check_open_metrics():
    wait_for(lambda: value('up{job="direct"}') == 1, "Prometheus cannot parse the OpenMetrics text")
    wait_for(lambda: value('harden_why_denials_total{job="direct", name="dies.service"}') == 1, "no denial by OpenMetrics")
    print("ok: Prometheus reads the OpenMetrics text")


def check_dashboard():
    dashboard = json.loads((SOURCES / "harden-why.dashboard.json").read_text())
    queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 7
    # `increase` needs two samples of a series.
    for title, query in queries:
        concrete = query.replace("$instance", ".*")
        assert not re.search(r"\$", concrete), f"{title} has an unknown variable: {query}"
        wait_for(lambda: value(concrete) is not None, f"{title} has no values: {query}")
        print(f"ok: {title}: {value(concrete)}")
    metrics = set(re.findall(r"harden_why_\w+", " ".join(query for _, query in queries)))
    written = (textfiles / "harden-why.prom").read_text()
    missing = [metric for metric in metrics if f"# TYPE {metric} " not in written]
    assert not missing, f"the dashboard names metrics that do not exist: {missing}"


def check_silence():
    """Without the daemon the metrics report that it is away."""
    os.kill(int((STAGE / "harden-whyd.pid").read_text()), 15)
    wait_for(lambda: "harden_why_up 0" in client("metrics"), "the end of harden-whyd does not show")
    print("ok: harden_why_up is 0 without harden-whyd")


def main():
    textfiles.mkdir()
    kill_a_unit()
    write_textfile()
    check_text()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", DIRECT), OpenMetrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    exporter = subprocess.Popen(
        [shutil.which("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{NODE_EXPORTER}",
         "--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={textfiles}",
         "--log.level=error"],
    )  # fmt: skip
    prometheus = start_prometheus()
    try:
        check_alert()
        check_open_metrics()
        check_dashboard()
        check_silence()
    finally:
        prometheus.terminate()
        exporter.terminate()


main()
