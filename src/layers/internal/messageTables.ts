/** The tables in which accepted messages lie, each written by one service. Whoever audits the books counts them. */
import type { DeadLetter } from "../../services/DeadLetters.js"
import type { UndispatchedItem } from "../../services/Inbox.js"
import { table } from "../../services/Store.js"

export { mail } from "./mail.js"
/** In arrival order. */
export const inbox = table<UndispatchedItem>("inbox", 1)
/** In the order in which they were given up. */
export const deadLetters = table<DeadLetter>("dead_letters", 1)
