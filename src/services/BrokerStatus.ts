/** What the broker knows of itself, for operators. */
import { Context } from "effect"
import type { Status } from "./ipc/OperatorGroup.js"

export class BrokerStatus extends Context.Tag("broker/BrokerStatus")<
  BrokerStatus,
  {
    /** A picture of this moment. */
    readonly unsafeStatus: () => Status
  }
>() {}
