/** Who may use which routes. Requests are admitted before they reach a route; here is what the routes know of it. */
import { HttpApiMiddleware, HttpApiSecurity } from "@effect/platform"
import { Context } from "effect"
import { onWire, Unauthorized } from "../model/Errors.js"

/** `plugin`: the token of the discovery file. `operator`: the token of the operator file, which opens every route. */
export type Role = "plugin" | "operator"

/** As what the request was admitted. */
export class Admitted extends Context.Tag("broker/ipc/Admitted")<Admitted, { readonly role: Role }>() {}

/** Routes behind it take `Authorization: Bearer <token>`. */
export class Authorized extends HttpApiMiddleware.Tag<Authorized>()("broker/ipc/Authorized", {
  provides: Admitted,
  failure: onWire(Unauthorized),
  security: { bearer: HttpApiSecurity.bearer }
}) {}
