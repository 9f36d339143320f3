"""Runs the marked code blocks of the pages that are named; scripts/docs-test.sh says what the marks mean, and calls this."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import proxies

work, pages = Path(sys.argv[1]), sys.argv[2:]
environment = {name: os.environ[name] for name in (
    "PATH", "HOME", "SIDECAR", "UNREADY", "TENANT", "TOKEN", "EXPIRED", "APP_TOKEN", "AGENT_ID", "AGENT_USERNAME", "AGENT_USER_ID", "TENANT_ID", "CLIENT_ID", "SETTINGS")}
environment["NO_PROXY"] = "*"
# What a reader has after making an app registration.
environment |= {"APP_ID": environment["CLIENT_ID"], "SECRET": "a-secret"}
# The packages that a reader would install.
clients = os.environ["CLIENTS"]
if clients:
    (work / "node_modules").symlink_to(Path(clients, "node", "node_modules"))
programs = {"python": [f"{clients}/venv/bin/python" if clients else "python3", "-"], "js": ["node", "--input-type=module", "-"], "go": ["go", "run", "program.go"]}
proxy_kinds = {"nginx", "caddyfile", "haproxy", "traefik", "envoy"}
code = {"sh", "json", "lua", "yaml", "csharp", *proxy_kinds, *programs}
marks_known = {"run", "answer", "check", "shown"}
run, skipped, problems = 0, set(), []

# curl as a reader's would be, were it not for this machine's proxies and settings; proxy.example is the proxy under test, and
# proxy.unready.example the same one without a sidecar.
PRELUDE = """set -euo pipefail
curl() {
  local word own=()
  for word in "$@"; do
    case $word in
      http://proxy.example*) own=(--connect-to "::$PROXY") ;;
      http://proxy.unready.example*) own=(--connect-to "::$PROXY_UNREADY") ;;
    esac
  done
  command curl -q --noproxy '*' --max-time 30 "${own[@]}" "$@"
}
entra-sidecar() {
  local own=()
  # A reader's settings are in the working directory.
  case ${1:-} in token | header | validate) own=(--config "$SETTINGS") ;; esac
  command entra-sidecar "$@" "${own[@]}"
}
"""


def blocks(text):
    """Language, marks, text and line of each fenced block."""
    for found in re.finditer(r"^```(\w+)[ \t]*([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        yield found[1], found[2].split(), found[3], text.count("\n", 0, found.start()) + 1


def squeezed(text):
    return re.sub(r"\s+", " ", text).strip()


def answers(shown, said):
    pattern = ".*".join(re.escape(part) for part in squeezed(shown).split("…"))
    return re.fullmatch(pattern, squeezed(said), re.S)


class Shell:
    """One shell for a page, so that what a block sets is there in the next one."""

    def __init__(self):
        folder = work / f"page-{run}-{len(problems)}"
        folder.mkdir(exist_ok=True)
        self.process = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=environment, cwd=folder, text=True)
        self.process.stdin.write(PRELUDE)

    def run(self, text):
        """What a block prints, and whether it succeeded."""
        mark = "end-of-block-7f2c"
        self.process.stdin.write(f"{text}\nprintf '\\n%s\\n' {mark}\n")
        self.process.stdin.flush()
        said = []
        for line in self.process.stdout:
            if line.strip() == mark:
                return "".join(said), True
            said.append(line)
        return "".join(said), False

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check(text):
    file = work / "checked.json"
    file.write_text(text)
    done = subprocess.run(["entra-sidecar", "check", "--config", file], env={"PATH": environment["PATH"]}, cwd=work,
                          capture_output=True, text=True)
    # A file that only the reader has is no fault of the page.
    faults = [line for line in done.stderr.splitlines() if "No such file or directory" not in line]
    return "\n".join(faults)


def execute(language, text):
    """What a program prints, and whether it succeeded."""
    (work / "program.go").write_text(text)
    done = subprocess.run(programs[language], input=text, env=environment, cwd=work, capture_output=True, text=True)
    return done.stdout + done.stderr, done.returncode == 0


def start_proxy(kind, text, files):
    """Starts the proxy of a recipe twice, in front of a sidecar and of one that is not ready, and judges it. What is missing for it."""
    if not proxies.program(kind):
        return kind
    addresses = [environment[name].removeprefix("http://") for name in ("SIDECAR", "UNREADY")]
    try:
        ready, unready = (proxies.Proxy(kind, text, address, work, files) for address in addresses)
    except RuntimeError as error:
        problems.append(str(error))
        return kind
    tokens = (environment[name] for name in ("TOKEN", "APP_TOKEN", "EXPIRED"))
    problems.extend(f"{kind}: {wrong}" for wrong in proxies.judge(ready, unready, *tokens))
    environment.update(PROXY=f"127.0.0.1:{ready.port}", PROXY_UNREADY=f"127.0.0.1:{unready.port}")
    return None


environment.update(PROXY="", PROXY_UNREADY="")
for page in pages:
    shell, said, missing, files = None, "", None, {}
    for language, marks, text, line in blocks(Path(page).read_text()):
        where = f"{page}:{line}"
        if language in code and not marks_known & set(marks):
            problems.append(f"{where}: a block of {language} says whether it is run, checked or only shown")
        if "run" in marks and language not in {"lua", *proxy_kinds}:
            text = text.replace("http://127.0.0.1:5000", environment["SIDECAR"])
        if "answer" in marks:
            if missing is None and said is not None and not answers(text, said):
                problems.append(f"{where}: shown:\n{text}but it said:\n{said[:3000]}")
            continue
        if "check" in marks:
            run += 1
            if language == "sh":
                # Settings in the environment, or a block that writes the file.
                shell = shell or Shell()
                said, good = shell.run(f"( {text}\nentra-sidecar check >/dev/null )")
                faults = said.strip() if good else f"failed, saying:\n{said}"
                shell = shell if good else None
            else:
                faults = check(text)
            if faults:
                problems.append(f"{where}: {faults}")
            continue
        if "run" not in marks:
            continue
        if language == "lua":
            files["lua"] = text
            continue
        if language in proxy_kinds:
            missing = start_proxy(language, text, files)
            if missing:
                skipped.add(missing)
            else:
                run += 1
                shell = None
            continue
        if missing:
            continue
        run += 1
        if language == "sh":
            shell = shell or Shell()
            said, good = shell.run(text)
            if not good:
                shell = None
        else:
            if not shutil.which(programs[language][0]):
                skipped.add(language)
                said = None
                continue
            said, good = execute(language, text)
            if not good and not clients and ("ModuleNotFoundError" in said or "ERR_MODULE_NOT_FOUND" in said):
                skipped.add(f"packages for {language}")
                said = None
                continue
        if not good:
            problems.append(f"{where}: failed, saying:\n{said[:3000]}")
    if shell:
        shell.close()

print("\n\n".join(problems) or f"docs-test: {run} blocks of {len(pages)} pages hold")
if skipped:
    print(f"docs-test: skipped for want of {', '.join(sorted(skipped))}")
sys.exit(bool(problems))
