import Foundation
import Process
import Testing

/// The violations that `Scripts/test faults --planted` plants in a copy of the product.
struct PlantTests {
    @Test("each planted violation fits the sources as they are")
    func fits() async throws {
        let repository = try directory(named: "CLOUDRMM_TEST_REPOSITORY")
        let patches = try FileManager.default.contentsOfDirectory(atPath: "\(repository)/Tests/Plants")
        #expect(patches.count > 1)
        for patch in patches {
            // As a directory like any other, whoever its repository belongs to.
            let (exit, text) = try await Command.run(
                ["git", "apply", "--check", "-C1", "Tests/Plants/\(patch)"], in: repository,
                variables: [
                    ("GIT_CEILING_DIRECTORIES", Self.parent(of: repository)), ("GIT_DIR", "/nowhere"),
                ])
            #expect(exit == .exited(0), "\(patch): \(text)")
        }
    }

    private static func parent(of path: String) -> String {
        URL(filePath: path).deletingLastPathComponent().path
    }
}
