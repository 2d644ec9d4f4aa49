/** The daemon as launchers start it: `node dist/programs/broker.js`, no arguments, settings from environment and file. */
import { runDaemon, runToExit } from "./main.js"

runToExit(runDaemon({}, []))
