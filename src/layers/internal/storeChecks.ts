import { Effect } from "effect"
import { StoreUnavailable } from "../../services/model/Errors.js"
import type { Store, StoreHealth } from "../../services/Store.js"

type Trouble = Exclude<StoreHealth, { readonly _tag: "Healthy" }>

/** What whoever asked is told while the store is not as it should be. */
export const unavailable = ({ _tag, reason }: Trouble): StoreUnavailable =>
  new StoreUnavailable({
    message: _tag === "Full" ? `No new mail is taken: ${reason}.` : `The broker cannot write to its store: ${reason}.`,
    retryable: true
  })

const refusing =
  (isFine: (health: StoreHealth) => boolean) =>
  (store: Store["Type"]): StoreUnavailable | undefined => {
    const health = store.unsafeHealth()
    return isFine(health) ? undefined : unavailable(health as Trouble)
  }

/** The refusal of new mail while the store fails, and while it has too little room. */
export const refuseNewMail = refusing(({ _tag }) => _tag === "Healthy")

/** The refusal of work that has to be stored while the store fails. Work on what is here goes on while it is full: mail leaves by it. */
const refuseUnwritten = refusing(({ _tag }) => _tag !== "Failing")

/** `refuseUnwritten`, where the work goes on in another turn. */
export const storeCommits = (store: Store["Type"]): Effect.Effect<void, StoreUnavailable> =>
  Effect.suspend(() => refuseUnwritten(store) ?? Effect.void)
