"""The VS Code extension: it has the grammar of the language, and starts the language server."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path("editors/vscode")
PACKAGE = json.loads((FOLDER / "package.json").read_text())
STARTED = """
const Module = require("module");
const settings = { command: ["python", "-m", "maskdsl"], measureSeconds: 5 };
class LanguageClient {
  constructor(...all) { console.log(JSON.stringify(all)); }
  async start() { console.log("started"); }
  async stop() { console.log("stopped"); }
}
const stubs = {
  vscode: { workspace: { getConfiguration: () => ({ get: (name) => settings[name] }) } },
  "vscode-languageclient/node": { LanguageClient },
};
const load = Module._load;
Module._load = (name, ...rest) => stubs[name] ?? load(name, ...rest);
const { activate, deactivate } = require("./extension.js");
activate().then(deactivate);
"""


def test_it_has_the_grammar():
    (grammar,) = PACKAGE["contributes"]["grammars"]
    assert (FOLDER / grammar["path"]).read_text() == Path("grammar/attn.tmLanguage.json").read_text()


def test_the_files_it_names_are_there():
    (language,) = PACKAGE["contributes"]["languages"]
    assert (FOLDER / PACKAGE["main"]).is_file()
    configuration = json.loads((FOLDER / language["configuration"]).read_text())
    indent = configuration["indentationRules"]["increaseIndentPattern"]
    assert re.match(indent, "pattern p(n = 4) {") and not re.match(indent, "    attend causal")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_it_starts_the_server():
    ended = subprocess.run(["node", "-e", STARTED], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    first, *rest = ended.stdout.splitlines()
    _, _, server, options = json.loads(first)
    assert server == {"command": "python", "args": ["-m", "maskdsl", "lsp", "--stdio"]}
    assert options["documentSelector"] == [{"language": "attn"}]
    assert rest == ["started", "stopped"], ended.stderr
