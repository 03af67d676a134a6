import Foundation

/// All definitions and policies of two folders, every one of them valid.
package struct Library: Sendable {
    /// Definitions by name.
    package let definitions: [String: Definition]
    /// Policies by name.
    package let policies: [String: Policy]

    /// The most `.yaml` files in a folder.
    package static let filesMax = 1000
    /// The most bytes of one file.
    package static let fileBytesMax = 2 << 20

    /// Reads every `.yaml` file directly in the two folders; other files there are scripts that definitions
    /// name.
    ///
    /// Throws `CatalogProblems` with everything that is wrong in any of them.
    package static func load(jobsDirectory: String, policiesDirectory: String) throws -> Library {
        var problems: [CatalogError] = []
        let definitions = files(in: jobsDirectory, &problems) { file, text in
            try Definition.parse(file: file, text: text) { path in
                try sibling(path, in: URL(filePath: jobsDirectory))
            }
        }
        let policies = files(in: policiesDirectory, &problems) { file, text in
            try Policy.parse(file: file, text: text, definitions: definitions)
        }
        guard problems.isEmpty else { throw CatalogProblems(problems: problems) }
        return Library(definitions: definitions, policies: policies)
    }

    /// The readable files of a folder, each parsed; the key is the file's name without its ending.
    private static func files<Value>(
        in directory: String, _ problems: inout [CatalogError], parse: (String, String) throws -> Value
    ) -> [String: Value] {
        func report(_ file: String, _ message: String) {
            problems.append(CatalogError(file: file, line: 1, column: nil, field: "", message: message))
        }
        var values: [String: Value] = [:]
        do {
            let names = try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
            for name in names where name.hasSuffix(".yml") {
                report("\(directory)/\(name)", "ends in .yml; allowed: .yaml")
            }
            let yamlNames = names.filter { $0.hasSuffix(".yaml") && !$0.hasPrefix(".") }
            guard yamlNames.count <= filesMax else {
                report(directory, "has \(yamlNames.count) files; allowed: at most \(filesMax)")
                return [:]
            }
            for name in yamlNames {
                let file = "\(directory)/\(name)"
                do {
                    let bytes = try contents(of: URL(filePath: file), bytesMax: fileBytesMax)
                    guard let text = String(validating: bytes, as: UTF8.self) else {
                        report(file, "is not UTF-8")
                        continue
                    }
                    values[String(name.dropLast(".yaml".count))] = try parse(file, text)
                } catch let error as CatalogProblems {
                    problems += error.problems
                } catch {
                    report(file, "cannot be read: \(error)")
                }
            }
        } catch {
            report(directory, "cannot be read: \(error.localizedDescription)")
        }
        return values
    }

    /// A file beside the definitions; links that lead out of the folder are refused.
    private static func sibling(_ path: String, in directory: URL) throws -> [UInt8] {
        let root = directory.resolvingSymlinksInPath().path
        let file = directory.appending(path: path).resolvingSymlinksInPath()
        guard file.path.hasPrefix(root.hasSuffix("/") ? root : root + "/") else {
            throw UnreadableFile(description: "it leads out of the folder")
        }
        return try contents(of: file, bytesMax: Definition.bodyBytesMax)
    }

    private static func contents(of file: URL, bytesMax: Int) throws -> [UInt8] {
        let values: URLResourceValues
        do {
            values = try file.resolvingSymlinksInPath().resourceValues(forKeys: [
                .isRegularFileKey, .fileSizeKey,
            ])
        } catch {
            throw UnreadableFile(description: "there is no such file")
        }
        guard values.isRegularFile == true else { throw UnreadableFile(description: "it is not a file") }
        guard let size = values.fileSize, size <= bytesMax else {
            throw UnreadableFile(description: "it has more than \(bytesMax) bytes")
        }
        do {
            return try [UInt8](Data(contentsOf: file))
        } catch {
            throw UnreadableFile(description: error.localizedDescription)
        }
    }

    /// Why a file could not be read; it becomes part of a problem's message.
    private struct UnreadableFile: Error, CustomStringConvertible {
        let description: String
    }
}
