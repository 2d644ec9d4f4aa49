/** Whether the broker is on the network. Plugins are told of every change, then the platform. */

import type { Effect } from "effect"
import { Context } from "effect"
import type { Presence as State } from "./model/PresenceMachine.js"

export class Presence extends Context.Tag("broker/Presence")<
  Presence,
  {
    readonly unsafeCurrent: () => State
    /** The broker leaves: presence is `offline` from now on. */
    readonly leave: Effect.Effect<void>
  }
>() {}
