import { PlatformRefused, PlatformUnauthorized, PlatformUnavailable } from "../../services/model/Errors.js"
import type { PlatformError } from "../../services/PlatformApi.js"

/** What a plugin is told when the platform call behind its request failed. */
export const platformRefusal = (error: PlatformError): PlatformUnauthorized | PlatformRefused | PlatformUnavailable => {
  const { code, kind, message, reason, status } = error
  if (kind === "unauthorized" || status === 401 || status === 403) {
    return new PlatformUnauthorized({
      message: "The platform refused the broker's credentials; the owner has to renew them."
    })
  }
  return status !== undefined && status >= 400 && status < 500
    ? new PlatformRefused({ status, code, message: reason })
    : new PlatformUnavailable({ message, retryable: true })
}
