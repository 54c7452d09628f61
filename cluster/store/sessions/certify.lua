-- Makes a certified epoch the key's own. Sealed shares of lower epochs are deleted
-- once all of the new one's are here.
-- KEYS[1] = conclave:key:{id}           hash
-- KEYS[2] = conclave:key:{id}:shares    hash
-- KEYS[3] = conclave:key:{id}:epochs    hash
-- KEYS[4] = conclave:key:{id}:lineage   hash
-- ARGV[1] = version that the change was made from
-- ARGV[2] = session id that must be the key's open reshare; empty for a certificate that a member brought
-- ARGV[3] = the epoch's number
-- ARGV[4] = number of its parts
-- ARGV[5] = how many epochs follow, then number and record of each; how many certificates, then number and text of each; then field and value pairs of the key's record
-- When Redis is full: goes on
-- returns  1; 0 if the version has moved on, the key is not active or another reshare is open
local record = redis.call('HMGET', KEYS[1], 'version', 'status', 'reshare')
if record[1] ~= ARGV[1] or record[2] ~= 'active' or ARGV[2] ~= '' and record[3] ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], '') -- nothing, and not refused
-- The record last: whoever reads it relies on the certificate.
local at = 5
for key = 3, 4 do
  local entries = tonumber(ARGV[at])
  for i = 1, entries do
    redis.call('HSET', KEYS[key], ARGV[at + 2 * i - 1], ARGV[at + 2 * i])
  end
  at = at + 2 * entries + 1
end
redis.call('HSET', KEYS[1], unpack(ARGV, at))
local prefix = ARGV[3] == '1' and '' or ARGV[3] .. ':'
for part = 1, tonumber(ARGV[4]) do
  if redis.call('HEXISTS', KEYS[2], prefix .. part) == 0 then
    return 1
  end
end
local shares = redis.call('HGETALL', KEYS[2])
for i = 1, #shares, 2 do
  local epoch = string.match(shares[i], '^(%d+):%d+$') or string.match(shares[i], '^%d+$') and '1'
  if epoch and tonumber(epoch) < tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[2], shares[i])
  end
end
return 1
