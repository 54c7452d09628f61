-- Notes that tokens are revoked, and forgets what is older than any token.
--
-- KEYS[1]  <prefix>revoked, stream
-- ARGV[1]  longest life of a token, ms
-- ARGV[2…] fields and values of the entry
--
-- When Redis is full: goes on.
-- Returns the entry's id, whose first part is now, ms.
local revoked = KEYS[1]
local life = tonumber(ARGV[1])

local now = redis.call('TIME')
local ms = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
redis.call('XTRIM', revoked, 'MINID', string.format('%.0f', ms - life))
local id = redis.call('XADD', revoked, '*', unpack(ARGV, 2))
redis.call('PEXPIRE', revoked, life)
return id
