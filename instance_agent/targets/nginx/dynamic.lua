-- Chooses the certificate of each TLS handshake by its server name, from files that the certcast agent keeps.
--
-- For port 443 and `shop.example.com` that is <folder>/443/shop.example.com.pem, else <folder>/443/_.example.com.pem,
-- which is the wildcard's, else <folder>/443/_default_.pem, which alone is for clients that ask for no name; else the
-- server block's own certificate answers. It is the rule of `hosts_for` in shared/hostnames.py. Parsed files are kept by
-- each worker until the agent says that files have changed: it raises a generation shared by all workers, and a file is
-- then read again on its next use, and parsed again only where its content is another.

local ssl = require "ngx.ssl"
local lrucache = require "resty.lrucache"

local CACHED_FILES = 20000
local LONGEST_NAME = 253 -- of a host
local LONGEST_LABEL = 63
local LONGEST_STEM = 250 -- with its suffix the longest name of a file
local DEFAULT_STEM = "_default_"
local NO_SUCH_FILE = 2 -- ENOENT
local NO_SUCH_FOLDER = 20 -- ENOTDIR

local generations = ngx.shared.certcast
local cache = assert(lrucache.new(CACHED_FILES))
local choices = assert(lrucache.new(CACHED_FILES)) -- by port and server name as it was sent: most come again and again

local _M = {}

local function is_host_label(label)
    return #label > 0 and #label <= LONGEST_LABEL and not label:find("_", 1, true)
        and label:sub(1, 1) ~= "-" and label:sub(-1) ~= "-"
end

-- The name a client asked for, or nil for anything that is none, and whether a host can be called so: what a client
-- sends becomes part of a path only as lower-case labels of letters, digits and hyphens, of which the first, under a
-- wildcard, may be any. So there is no slash, no `..`, and no empty label in it.
function _M.host_name(sni)
    if not sni or #sni > LONGEST_NAME + 1 then
        return nil
    end
    local name = sni:lower():gsub("%.$", "")
    local first, parents = name:match("^([a-z0-9_-]+)(.*)$")
    if not first or #first > LONGEST_LABEL or #name > LONGEST_NAME or parents:find("[^a-z0-9.-]") then
        return nil
    end
    local rest = parents:gsub("%.([^.]*)", function(label)
        return is_host_label(label) and "" or nil
    end)
    if rest ~= "" then
        return nil
    end
    return name, is_host_label(first)
end

local function parse(pem)
    local chain, trouble = ssl.parse_pem_cert(pem)
    if not chain then
        return nil, trouble
    end
    local key
    key, trouble = ssl.parse_pem_priv_key(pem)
    if not key then
        return nil, trouble
    end
    return { chain = chain, key = key, digest = ngx.md5_bin(pem) }
end

-- What a file holds; nil where there is none. One that cannot be read or parsed does not take away what it held before.
local function load(path, generation)
    local known = cache:get(path)
    if known and known.generation == generation then
        return known
    end
    local file, trouble, code = io.open(path, "rb")
    if not file then
        if code == NO_SUCH_FILE or code == NO_SUCH_FOLDER then
            cache:delete(path)
            return nil
        end
        ngx.log(ngx.ERR, "certcast: ", trouble)
        return known
    end
    local pem = file:read("*a")
    file:close()
    if known and pem and known.digest == ngx.md5_bin(pem) then
        known.generation = generation
        return known
    end
    local fresh
    fresh, trouble = parse(pem or "")
    if not fresh then
        ngx.log(ngx.ERR, "certcast: ", path, " cannot be served: ", trouble)
        return known
    end
    fresh.generation = generation
    cache:set(path, fresh)
    return fresh
end

local function load_stem(place, stem, generation)
    return #stem <= LONGEST_STEM and load(place .. stem .. ".pem", generation) or nil
end

local function look_up(place, sni, generation)
    local name, is_host = _M.host_name(sni)
    if not name then
        return nil
    end
    local found = is_host and load_stem(place, name, generation)
    if not found then
        local parent = name:match("^[^.]+(%..+%..+)$")
        found = parent and load_stem(place, "_" .. parent, generation)
    end
    return found
end

-- What is bound for a name, or else for the default. A choice is kept by the name as it was sent, but not where the
-- default answers: it does so for any name at all, and would push others out.
local function choose_again(folder, port, sni, asked, generation)
    local place = folder .. "/" .. port .. "/"
    local found = look_up(place, sni, generation)
    if not found then
        if asked then
            choices:delete(asked)
        end
        return load_stem(place, DEFAULT_STEM, generation)
    end
    if found.generation == generation then -- else it could not be read now
        choices:set(asked, { found = found, generation = generation })
    end
    return found
end

-- In ssl_certificate_by_lua: give the handshake its certificate, or leave it the server block's own.
function _M.choose(folder, port_offset)
    local sni = ssl.server_name()
    local port = ssl.server_port() - port_offset
    -- Read before the files are, so that a change in between is noticed at the next handshake.
    local generation = generations:get("generation") or 0
    local asked = sni and port .. " " .. sni
    local choice = asked and choices:get(asked)
    local found
    if choice and choice.generation == generation then
        found = choice.found
    else
        found = choose_again(folder, port, sni, asked, generation)
    end
    if not found then
        return
    end
    local ok, trouble = ssl.clear_certs()
    if ok then
        ok, trouble = ssl.set_cert(found.chain)
    end
    if ok then
        ok, trouble = ssl.set_priv_key(found.key)
    end
    if not ok then
        ngx.log(ngx.ERR, "certcast: the certificate for ", _M.host_name(sni) or "the default", " cannot be served: ", trouble)
        return ngx.exit(ngx.ERROR)
    end
end

-- On the agent's unix socket: tell what is loaded; a POST says that files have changed.
function _M.answer(token)
    local generation, trouble
    if ngx.req.get_method() == "POST" then
        generation, trouble = generations:incr("generation", 1, 0)
        if not generation then
            ngx.status = ngx.HTTP_INTERNAL_SERVER_ERROR
            return ngx.say("the shared dictionary is out of order: ", trouble)
        end
    else
        generation = generations:get("generation") or 0
    end
    ngx.say("certcast ", token, " ", string.format("%d", generation))
end

return _M
