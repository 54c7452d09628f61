-- restore: record a connection as its member's live socket where none is
-- recorded, because Redis has lost the record.
--
-- KEYS[1] presence:{member}  hash
-- ARGV[1] node, ARGV[2] conn, ARGV[3] role, ARGV[4] since (RFC 3339)
--
-- When Redis is full: goes on.
-- Returns 1 when recorded, 0 when a record is there.
local presence = KEYS[1]
local node, conn, role, since = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if redis.call('HEXISTS', presence, 'conn') == 1 then return 0 end
redis.call('HDEL', presence, '') -- nothing, and not refused
redis.call('HSET', presence, 'node', node, 'conn', conn, 'role', role, 'since', since)
return 1
