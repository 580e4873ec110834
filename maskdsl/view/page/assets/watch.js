// Asks the server for changes of the file: reloads the page, or shows an error above the last version.

const PERIOD = 400;

function watch(state) {
  showProblem(state.error);
  const ask = async () => {
    try {
      const now = await (await fetch("state", { cache: "no-store" })).json();
      if (now.version !== state.version && now.error === null) return location.reload();
      showProblem(now.error);
    } catch {
      showProblem("The server has ended. `maskdsl view FILE --watch` starts it again.", "No connection");
    }
    setTimeout(ask, PERIOD);
  };
  setTimeout(ask, PERIOD);
}

/** Shows an error as the command line prints it, with its first lines and carets highlighted; null for none. */
function showProblem(text, title = "The file has an error") {
  const box = byId("problem");
  byId("page").classList.toggle("stale", text !== null);
  if (text === null) return void (box.hidden = true);
  if (!box.hidden && box.dataset.text === text) return;
  box.dataset.text = text;
  byId("problem-title").textContent = title;
  byId("problem-text").replaceChildren(
    ...text.split("\n").flatMap((line) => {
      const kind = /^error\[/.test(line) ? "code" : /\|[ |_/]*\^/.test(line) ? "caret" : "";
      return [kind ? element("span", { class: kind }, line) : line, "\n"];
    }),
  );
  box.hidden = false;
}
