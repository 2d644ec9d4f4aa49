/** Where this broker keeps its files. Everything of one identity lies in one directory. */
import { Context } from "effect"

export class Paths extends Context.Tag("broker/Paths")<
  Paths,
  {
    /** Directory of one identity (account and token): mode 0700. */
    readonly directory: string
    /** How plugins find this broker. */
    readonly discoveryFile: string
    /** The operator's token. */
    readonly operatorFile: string
    /** Held while a broker of this identity runs. */
    readonly lockFile: string
    /** The durable store. */
    readonly storeDirectory: string
    /** Logs of all identities. */
    readonly logDirectory: string
    /** This process's log. */
    readonly logFile: string
  }
>() {}
