/** Whether the platform knows the account whose credentials the broker has. Asked once, in the background. */

import type { Effect } from "effect"
import { Context } from "effect"
import type { Account } from "./model/PlatformWire.js"

export class AccountCheck extends Context.Tag("broker/AccountCheck")<
  AccountCheck,
  {
    /**
     * The account, as soon as the platform has named it: it is asked until it answers. `undefined` on networks without
     * accounts. Waits for ever when the platform refuses, for then the broker ends.
     */
    readonly account: Effect.Effect<Account | undefined>
    /** Why the credentials are refused for good, as a sentence; the broker was asked to end when this is there. */
    readonly unsafeRefusal: () => string | undefined
  }
>() {}
