-- Stores a share of an attempt of a key's open reshare.
-- KEYS[1] = conclave:key:{id}          hash
-- KEYS[2] = conclave:key:{id}:shares   hash
-- ARGV[1] = session id of the reshare
-- ARGV[2] = the attempt's epoch number
-- ARGV[3] = part index
-- ARGV[4] = the share
-- When Redis is full: refused
-- returns  1; 0 if the session is not the key's open reshare, or the number is not one that was taken after the key's epoch
local record = redis.call('HMGET', KEYS[1], 'status', 'reshare', 'epoch', 'highest')
if record[1] ~= 'active' or record[2] ~= ARGV[1] then
  return 0
end
local number = tonumber(ARGV[2])
if number <= tonumber(record[3] or '1') or number > tonumber(record[4] or '1') then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[2] .. ':' .. ARGV[3], ARGV[4])
return 1
