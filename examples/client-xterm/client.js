import { Terminal } from "xterm";
import { FitAddon } from "xterm-addon-fit";
const term = new Terminal();
const fitAddon = new FitAddon();
term.loadAddon(fitAddon);
term.open(document.getElementById("terminal"));
fitAddon.fit();
const ws = new WebSocket(`ws://localhost:3030/ws/console/${sessionId}`);
ws.onopen = () =>
ws.send(JSON.stringify({ type: "resize", cols: term.cols, rows: term.rows }));
term.onData((data) => ws.send(data));
ws.onmessage = (event) => {
if (event.data instanceof Blob)
event.data.text().then((text) => term.write(text));
else term.write(event.data);
};
