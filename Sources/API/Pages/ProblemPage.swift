import HTTPTypes

/// The page of problem codes, for people: made from the codes themselves, as HTML and for the documentation.
enum ProblemPage {
    private static let introduction =
        "Whatever is refused is a problem of RFC 9457, sent as application/problem+json. Programs decide by "
        + "its code, which never changes its meaning; detail is for people, and names value and limit."

    /// The page that the API serves.
    static var html: [UInt8] {
        let rows = ProblemCode.allCases.map { code in
            "<tr id=\"\(code.rawValue)\"><td><code>\(code.rawValue)</code></td>"
                + "<td>\(code.status.code) \(code.status.reasonPhrase)</td><td>\(code.meaning)</td></tr>\n"
        }
        return Array(
            """
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <title>CloudRMM problems</title>
            <link rel="stylesheet" href="/docs/docs.css">
            </head>
            <body>
            <header><h1>Problems</h1><p>\(introduction)</p></header>
            <main><table>
            <thead><tr><th>code</th><th>status</th><th>what it says, and what to do</th></tr></thead>
            <tbody>
            \(rows.joined())</tbody>
            </table></main>
            </body>
            </html>

            """.utf8)
    }

    /// The page of the documentation.
    static var markdown: String {
        let rows = ProblemCode.allCases.map {
            "| `\($0.rawValue)` | \($0.status.code) \($0.status.reasonPhrase) | \($0.meaning) |\n"
        }
        return
            "# Problems\n\n\(introduction)\n\n| code | status | what it says, and what to do |\n"
            + "|---|---|---|\n"
            + rows.joined()
    }
}
