/** The broker as a graph of layers, and the daemon around it. To swap a part, give `brokerWith` another variant. */
export * as Daemon from "./daemon.js"
export * as Graph from "./Graph.js"
export * as Leave from "./leave.js"
export * as Main from "./main.js"
export * as Variants from "./variants.js"
