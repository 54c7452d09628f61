-- leave: remove a member's presence if it still is that of the connection.
--
-- KEYS[1] presence:{member}  hash
-- KEYS[2] joined:{member}    string
-- ARGV[1] conn
-- ARGV[2] now (RFC 3339, by Redis's clock)
-- ARGV[3] time to live of joined, ms
--
-- When Redis is full: goes on.
-- Returns 1 when removed, 0 when it is another's or gone.
local presence, joined, conn = KEYS[1], KEYS[2], ARGV[1]

if redis.call('HGET', presence, 'conn') ~= conn then return 0 end
redis.call('DEL', presence)
redis.call('SET', joined, ARGV[2], 'PX', ARGV[3])
return 1
