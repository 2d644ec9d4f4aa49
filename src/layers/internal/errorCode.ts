import { isObject } from "../../services/model/Json.js"

/** Why a connection failed, as a code such as `ECONNREFUSED`; `undefined` without one. The text of an error may hold anything. */
export const errorCode = (cause: unknown): string | undefined => {
  const code = isObject(cause) ? cause.code : undefined
  return typeof code === "string" && /^\w{1,100}$/.test(code) ? code : undefined
}
