#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

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

/**
 * The same of many. @param bytes of each, end to end: key, signature, message @param ends where in them each ends
 * @return of each 1: its signature fits; 0: it does not, nor does what is too short, or not within the bytes
 */
std::vector<std::uint8_t> verify_ed25519_each(const std::vector<std::uint8_t>& bytes, const std::vector<std::uint32_t>& ends);

}  // namespace mdmesh
