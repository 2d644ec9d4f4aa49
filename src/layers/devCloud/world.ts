/** What the servers of the development cloud share. */
import type { Account } from "../../services/devCloud/Account.js"
import type { FaultBoard } from "../../services/devCloud/Faults.js"
import type { Journal } from "../../services/devCloud/Journal.js"
import type { Later } from "../../services/devCloud/Outflow.js"

export interface World {
  readonly accounts: ReadonlyMap<string, Account>
  readonly accountOfToken: (token: string) => Account | undefined
  readonly board: FaultBoard
  readonly journal: Journal
  readonly later: Later
  readonly now: () => number
  /** A number no other connection or subscription has. */
  readonly nextConnection: () => number
}
