/** The loopback surface for plugins and operators. Listening while this service exists. */
import { Context } from "effect"

export class IpcServer extends Context.Tag("broker/IpcServer")<
  IpcServer,
  {
    /** `http://127.0.0.1:<port>` */
    readonly url: string
    readonly port: number
  }
>() {}
