-- restore: record a connection as its member's live socket where none is
-- recorded, or one that joined before it, because Redis has lost the record.
-- (After owner.lua.)
--
-- KEYS[1] presence:{member}  hash
-- ARGV[1] node, ARGV[2] conn, ARGV[3] role, ARGV[4] since (RFC 3339)
-- ARGV[5] µs, when it joined, as join.lua said
--
-- When Redis is full: goes on.
-- Returns 1 when recorded, 0 when a newer record is there, or its own.
local presence = KEYS[1]
local node, conn, role, since, at = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if owner_of(presence, conn, at) ~= -1 then return 0 end
redis.call('HDEL', presence, 'seq', 'acked') -- of another connection; first, so that the rest is not refused
redis.call('HSET', presence, 'node', node, 'conn', conn, 'role', role, 'since', since, 'at', at)
return 1
