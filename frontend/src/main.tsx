import { render } from "preact";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/section.css";
import "./styles/candidates.css";
import "./styles/side.css";
import "./styles/progress.css";
import { App } from "./app";
import { startKeys } from "./lib/keys";
import { followAddress } from "./lib/route";

followAddress();
startKeys();
const root = document.getElementById("app");
if (root) render(<App />, root);
