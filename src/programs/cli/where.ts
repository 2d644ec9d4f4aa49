/** The options that say which running broker a command is for. */
import { Options } from "@effect/cli"
import { Option } from "effect"
import { layer, type Where } from "../../layers/BrokerClientHttp.js"
import { accountDirectory, baseDirectory } from "../../layers/PathsUserData.js"

export const whichBroker = {
  account: Options.text("account").pipe(
    Options.withDescription("The account of the broker"),
    Options.withDefault(process.env.MASONS_BROKER_ACCOUNT_ID || "default")
  ),
  directory: Options.text("directory").pipe(
    Options.withDescription("The directory of the broker's discovery file, where an account has several"),
    Options.optional
  )
}

/** A client of the broker the options name. */
export const clientOf = (options: { readonly account: string; readonly directory: Option.Option<string> }) => {
  const where: Where = Option.match(options.directory, {
    onSome: (directory) => ({ directory }),
    onNone: () => ({
      account: options.account,
      accountDirectory: accountDirectory(baseDirectory(process.env), options.account)
    })
  })
  return layer(where)
}
