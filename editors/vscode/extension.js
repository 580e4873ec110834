// Starts `maskdsl lsp` and speaks with it. Everything else is the server's: maskdsl/view/language_server.

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function activate() {
  const settings = vscode.workspace.getConfiguration("maskdsl");
  const [command, ...words] = settings.get("command");
  const server = { command, args: [...words, "lsp", "--stdio"] };
  client = new LanguageClient("maskdsl", "maskdsl", server, {
    documentSelector: [{ language: "attn" }],
    initializationOptions: { measureSeconds: settings.get("measureSeconds") },
  });
  try {
    await client.start();
  } catch (error) {
    vscode.window.showErrorMessage(`maskdsl did not start: ${error.message}. Install it with pip install "maskdsl[lsp]".`);
  }
}

function deactivate() {
  return client?.stop();
}

module.exports = { activate, deactivate };
