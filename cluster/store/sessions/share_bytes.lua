-- Measures the shares of a key, as they are stored.
-- KEYS[1] = conclave:key:{id}:shares   hash
-- ARGV    = fields: part indexes of epoch 1, <epoch>:<part index> of later ones
-- When Redis is full: goes on, writes nothing
-- returns  bytes
local sum = 0
for _, share in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
  sum = sum + (share and #share or 0)
end
return sum
