"""A client of the Language Server Protocol, as an editor is one: JSON-RPC with a process over its pipes."""

import json
import subprocess
import sys
from itertools import count
from pathlib import Path
from queue import Queue
from threading import Thread

SECONDS = 60


class Client:
    def __init__(self, folder: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-m", "maskdsl", "lsp", "--stdio"], **pipes)
        self.numbers, self.versions = count(1), count(1)
        self.answers, self.diagnostics = Queue(), Queue()
        self.folder = folder
        Thread(target=self._read, daemon=True).start()
        options = {"measureSeconds": SECONDS}
        parameters = {
            "processId": None,
            "rootUri": folder.as_uri(),
            "capabilities": {},
            "initializationOptions": options,
        }
        self.abilities = self.ask("initialize", parameters)["capabilities"]
        self.tell("initialized", {})

    def _read(self) -> None:
        stream = self.process.stdout
        while header := stream.readline():
            length = int(header.split(b":")[1])
            while stream.readline().strip():
                pass
            message = json.loads(stream.read(length))
            if message.get("method") == "textDocument/publishDiagnostics":
                self.diagnostics.put(message["params"])
            elif "method" not in message:
                self.answers.put(message)

    def _send(self, message: dict) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def tell(self, method: str, parameters: object) -> None:
        self._send({"method": method, "params": parameters})

    def ask(self, method: str, parameters: object):
        number = next(self.numbers)
        self._send({"id": number, "method": method, "params": parameters})
        answer = self.answers.get(timeout=SECONDS)
        assert answer["id"] == number and "error" not in answer, answer
        return answer["result"]

    def open(self, text: str, name: str = "some.attn") -> "Text":
        uri = (self.folder / name).as_uri()
        document = {"uri": uri, "languageId": "attn", "version": next(self.versions), "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        return Text(self, uri, text)

    def close(self) -> None:
        self.ask("shutdown", None)
        self.tell("exit", None)
        assert self.process.wait(SECONDS) == 0
        assert self.process.stderr.read() == b""
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


class Text:
    """An open document. Places are said by a piece of its text, and how far behind its beginning."""

    def __init__(self, client: Client, uri: str, text: str) -> None:
        self.client, self.uri, self.text = client, uri, text

    def change(self, text: str) -> None:
        self.text = text
        document = {"uri": self.uri, "version": next(self.client.versions)}
        self.client.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})

    def save(self) -> None:
        self.client.tell("textDocument/didSave", {"textDocument": {"uri": self.uri}})

    def diagnostics(self) -> list:
        """The next ones that come for this text."""
        while (found := self.client.diagnostics.get(timeout=SECONDS))["uri"] != self.uri:
            pass
        return found["diagnostics"]

    def position(self, piece: str, behind: int = 0) -> dict:
        offset = self.text.index(piece) + behind
        before = self.text[:offset]
        line = before[before.rfind("\n") + 1 :]
        return {"line": before.count("\n"), "character": len(line.encode("utf-16-le")) // 2}

    def ask(self, what: str, piece: str | None = None, behind: int = 0, **more):
        where = {} if piece is None else {"position": self.position(piece, behind)}
        return self.client.ask(f"textDocument/{what}", {"textDocument": {"uri": self.uri}, **where, **more})

    def hover(self, piece: str, behind: int = 0) -> str:
        return (self.ask("hover", piece, behind) or {"contents": {"value": ""}})["contents"]["value"]

    def complete(self, piece: str, behind: int | None = None) -> dict:
        items = self.ask("completion", piece, len(piece) if behind is None else behind)["items"]
        return {item["label"]: item for item in items}

    def part(self, position: dict) -> str:
        """The text of a range, which is on one line."""
        start, end = position["start"], position["end"]
        line = self.text.split("\n")[start["line"]].encode("utf-16-le")
        return line[2 * start["character"] : 2 * end["character"]].decode("utf-16-le")
