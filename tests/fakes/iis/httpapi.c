/* httpapi.dll's functions for certificate records over a table in memory, as documented and with Windows' sizes, so that
   a C compiler, and not our own Python, says where each member of a structure is.
   https://learn.microsoft.com/en-us/windows/win32/api/http/ */
#include <stdint.h>
#include <string.h>

typedef uint16_t WCHAR;
typedef struct { uint16_t major, minor; } HTTPAPI_VERSION;
typedef struct { uint16_t family; char pad1[6]; int64_t align; char pad2[112]; } SOCKADDR_STORAGE;
typedef struct { uint32_t data1; uint16_t data2, data3; unsigned char data4[8]; } GUID;
typedef struct {
    uint32_t SslHashLength; void *pSslHash; GUID AppId; WCHAR *pSslCertStoreName; uint32_t DefaultCertCheckMode;
    uint32_t DefaultRevocationFreshnessTime; uint32_t DefaultRevocationUrlRetrievalTimeout;
    WCHAR *pDefaultSslCtlIdentifier; WCHAR *pDefaultSslCtlStoreName; uint32_t DefaultFlags;
} PARAM;
typedef struct { void *pIpPort; } KEY;
typedef struct { SOCKADDR_STORAGE IpPort; WCHAR *Host; } SNI_KEY;
typedef struct { SOCKADDR_STORAGE LocalAddress; } CCS_KEY;
typedef struct { KEY KeyDesc; PARAM ParamDesc; } SET;
typedef struct { SNI_KEY KeyDesc; PARAM ParamDesc; } SNI_SET;
typedef struct { CCS_KEY KeyDesc; PARAM ParamDesc; } CCS_SET;
typedef struct { int QueryDesc; KEY KeyDesc; uint32_t dwToken; } QUERY;
typedef struct { int QueryDesc; SNI_KEY KeyDesc; uint32_t dwToken; } SNI_QUERY;
typedef struct { int QueryDesc; CCS_KEY KeyDesc; uint32_t dwToken; } CCS_QUERY;

enum { IP = 1, SNI = 5, CCS = 6, ROWS = 64, TEXT = 300 };
enum { NO_ERROR = 0, FILE_NOT_FOUND = 2, INVALID_PARAMETER = 87, INSUFFICIENT_BUFFER = 122, ALREADY_EXISTS = 183, NO_MORE_ITEMS = 259 };

typedef struct {
    int used, id; unsigned char address[28]; WCHAR host[TEXT]; unsigned char hash[32]; uint32_t hash_length; GUID app;
    WCHAR store[TEXT], ctl[TEXT], ctl_store[TEXT]; uint32_t check, freshness, timeout, flags;
} ROW;

static ROW rows[ROWS];
static int initialised;
int refuse_set;

static size_t units(const WCHAR *text) { size_t n = 0; while (text && text[n]) n++; return n; }

static void copy(WCHAR *to, const WCHAR *from)
{
    size_t n = units(from);
    if (from) memcpy(to, from, n * sizeof(WCHAR));
    to[n] = 0;
}

static size_t address_size(const void *address) { return *(const uint16_t *)address == 23 ? 28 : 16; }

static int find(int id, const void *address, const WCHAR *host)
{
    for (int i = 0; i < ROWS; i++) {
        if (!rows[i].used || rows[i].id != id || memcmp(rows[i].address, address, address_size(address))) continue;
        if (id != SNI || (units(host) == units(rows[i].host) && !memcmp(host, rows[i].host, units(host) * sizeof(WCHAR)))) return i;
    }
    return -1;
}

static const void *key_of(int id, const void *info, const WCHAR **host, const PARAM **param)
{
    *host = 0;
    if (id == IP) { const SET *set = info; *param = &set->ParamDesc; return set->KeyDesc.pIpPort; }
    if (id == SNI) { const SNI_SET *set = info; *param = &set->ParamDesc; *host = set->KeyDesc.Host; return &set->KeyDesc.IpPort; }
    const CCS_SET *set = info;
    *param = &set->ParamDesc;
    return &set->KeyDesc.LocalAddress;
}

static size_t set_size(int id) { return id == IP ? sizeof(SET) : id == SNI ? sizeof(SNI_SET) : sizeof(CCS_SET); }

static void fill(ROW *row, const PARAM *param)
{
    row->hash_length = param->SslHashLength;
    if (param->pSslHash) memcpy(row->hash, param->pSslHash, param->SslHashLength);
    row->app = param->AppId;
    copy(row->store, param->pSslCertStoreName);
    copy(row->ctl, param->pDefaultSslCtlIdentifier);
    copy(row->ctl_store, param->pDefaultSslCtlStoreName);
    row->check = param->DefaultCertCheckMode;
    row->freshness = param->DefaultRevocationFreshnessTime;
    row->timeout = param->DefaultRevocationUrlRetrievalTimeout;
    row->flags = param->DefaultFlags;
}

uint32_t HttpInitialize(HTTPAPI_VERSION version, uint32_t flags, void *reserved)
{
    if (version.major != 1 || version.minor != 0 || flags != 2 || reserved) return INVALID_PARAMETER;
    initialised++;
    return NO_ERROR;
}

uint32_t HttpTerminate(uint32_t flags, void *reserved) { (void)flags; (void)reserved; initialised--; return NO_ERROR; }

uint32_t HttpSetServiceConfiguration(void *handle, int id, void *info, uint32_t size, void *overlapped)
{
    const WCHAR *host; const PARAM *param;
    if (!initialised || handle || overlapped || size < set_size(id)) return INVALID_PARAMETER;
    const void *address = key_of(id, info, &host, &param);
    if (refuse_set) { refuse_set--; return 1312; }
    if (find(id, address, host) >= 0) return ALREADY_EXISTS;
    for (int i = 0; i < ROWS; i++) {
        if (rows[i].used) continue;
        memset(&rows[i], 0, sizeof(ROW));
        rows[i].used = 1;
        rows[i].id = id;
        memcpy(rows[i].address, address, address_size(address));
        copy(rows[i].host, host);
        fill(&rows[i], param);
        return NO_ERROR;
    }
    return INVALID_PARAMETER;
}

uint32_t HttpUpdateServiceConfiguration(void *handle, int id, void *info, uint32_t size, void *overlapped)
{
    const WCHAR *host; const PARAM *param;
    if (!initialised || handle || overlapped || size < set_size(id)) return INVALID_PARAMETER;
    const void *address = key_of(id, info, &host, &param);
    int at = find(id, address, host);
    if (at < 0) return FILE_NOT_FOUND;
    fill(&rows[at], param);
    return NO_ERROR;
}

uint32_t HttpDeleteServiceConfiguration(void *handle, int id, void *info, uint32_t size, void *overlapped)
{
    const WCHAR *host; const PARAM *param;
    if (!initialised || handle || overlapped || size < set_size(id)) return INVALID_PARAMETER;
    const void *address = key_of(id, info, &host, &param);
    int at = find(id, address, host);
    if (at < 0) return FILE_NOT_FOUND;
    rows[at].used = 0;
    return NO_ERROR;
}

static char *place(char **end, const void *content, size_t size)
{
    char *at = *end;
    memcpy(at, content, size);
    *end += (size + 7) & ~(size_t)7;
    return at;
}

static WCHAR *place_text(char **end, const WCHAR *text)
{
    return *text ? (WCHAR *)place(end, text, (units(text) + 1) * sizeof(WCHAR)) : 0;
}

uint32_t HttpQueryServiceConfiguration(
    void *handle, int id, void *input, uint32_t input_size, void *output, uint32_t size, uint32_t *needed, void *overlapped)
{
    if (!initialised || handle || overlapped) return INVALID_PARAMETER;
    if (input_size != (id == IP ? sizeof(QUERY) : id == SNI ? sizeof(SNI_QUERY) : sizeof(CCS_QUERY))) return INVALID_PARAMETER;
    const QUERY *q = input; const SNI_QUERY *sni = input; const CCS_QUERY *ccs = input;
    int at = -1;
    if (q->QueryDesc == 0) {
        at = id == IP ? find(id, q->KeyDesc.pIpPort, 0)
           : id == SNI ? find(id, &sni->KeyDesc.IpPort, sni->KeyDesc.Host) : find(id, &ccs->KeyDesc.LocalAddress, 0);
        if (at < 0) return FILE_NOT_FOUND;
    } else {
        uint32_t left = id == IP ? q->dwToken : id == SNI ? sni->dwToken : ccs->dwToken;
        for (int i = 0; i < ROWS && at < 0; i++) if (rows[i].used && rows[i].id == id && left-- == 0) at = i;
        if (at < 0) return NO_MORE_ITEMS;
    }
    const ROW *row = &rows[at];
    *needed = 8 * 10 + set_size(id) + 28 + 32 + 2 * (units(row->host) + units(row->store) + units(row->ctl) + units(row->ctl_store));
    if (size < *needed) return INSUFFICIENT_BUFFER;
    char *end = (char *)output + ((set_size(id) + 7) & ~(size_t)7);
    PARAM *param;
    if (id == IP) {
        SET *set = output;
        set->KeyDesc.pIpPort = place(&end, row->address, address_size(row->address));
        param = &set->ParamDesc;
    } else if (id == SNI) {
        SNI_SET *set = output;
        memcpy(&set->KeyDesc.IpPort, row->address, 16);
        set->KeyDesc.Host = place_text(&end, row->host);
        param = &set->ParamDesc;
    } else {
        CCS_SET *set = output;
        memcpy(&set->KeyDesc.LocalAddress, row->address, 16);
        param = &set->ParamDesc;
    }
    param->SslHashLength = row->hash_length;
    param->pSslHash = row->hash_length ? place(&end, row->hash, row->hash_length) : 0;
    param->AppId = row->app;
    param->pSslCertStoreName = place_text(&end, row->store);
    param->DefaultCertCheckMode = row->check;
    param->DefaultRevocationFreshnessTime = row->freshness;
    param->DefaultRevocationUrlRetrievalTimeout = row->timeout;
    param->pDefaultSslCtlIdentifier = place_text(&end, row->ctl);
    param->pDefaultSslCtlStoreName = place_text(&end, row->ctl_store);
    param->DefaultFlags = row->flags;
    return NO_ERROR;
}
