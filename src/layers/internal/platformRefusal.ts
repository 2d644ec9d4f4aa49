import { PlatformUnauthorized, PlatformUnavailable } from "../../services/model/Errors.js"
import type { PlatformError } from "../../services/PlatformApi.js"

/** What a plugin is told when the platform call behind its request failed. */
export const platformRefusal = (error: PlatformError): PlatformUnauthorized | PlatformUnavailable =>
  error.kind === "unauthorized"
    ? new PlatformUnauthorized({
        message: "The platform refused the broker's credentials; the owner has to renew them."
      })
    : new PlatformUnavailable({ message: error.message, retryable: true })
