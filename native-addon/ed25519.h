#pragma once
#include <cstddef>
#include <cstdint>

namespace mdmesh {

constexpr std::size_t kEd25519KeyBytes = 32;
constexpr std::size_t kEd25519SignatureBytes = 64;

/**
 * RFC 8032, 5.1.7, without the cofactor, by libsodium. What it takes, OpenSSL takes: it refuses keys and commitments (R) of small
 * order, keys not in their one form, and an S that is not below the group's order.
 * @param key of kEd25519KeyBytes @param signature of kEd25519SignatureBytes
 */
bool verify_ed25519(const std::uint8_t* key, const std::uint8_t* message, std::size_t message_bytes,
                    const std::uint8_t* signature) noexcept;

}  // namespace mdmesh
