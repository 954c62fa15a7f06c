import 'xterm/css/xterm.css';
import './session.js';
import './client.js';
