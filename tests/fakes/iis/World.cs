// The machine under the stub: committed configuration, http.sys records, site states, and the faults a test injects.
// No name here exists in the real library; only tests and the bench use it.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Microsoft.Web.Administration;

namespace Certcast.Stub
{
    public sealed class SslRecord
    {
        public byte[] Hash;
        public string Store;
    }

    public sealed class SiteRecord
    {
        public long Id;
        public string Name;
        public string FtpHash = "";
        public List<SortedDictionary<string, object>> Bindings = new List<SortedDictionary<string, object>>();
    }

    public static class World
    {
        public static long Version;
        public static int OpenManagers;
        public static int CommitAttempts;
        public static int Commits;
        public static int ConflictsToCome;
        public static int SharingViolationsToCome;
        public static int CommitHResult;
        public static string DefaultFtpHash = "";
        public static string IntruderSite = "";
        public static string IntruderBinding = "";
        public static List<SiteRecord> Sites = new List<SiteRecord>();
        public static List<string> Starts = new List<string>();
        public static HashSet<string> StaysStopped = new HashSet<string>();
        public static HashSet<string> StopsOnCommit = new HashSet<string>();
        public static HashSet<string> BrokenHashes = new HashSet<string>();
        public static HashSet<string> RefusedBindings = new HashSet<string>();
        public static Dictionary<string, int> RefusedRecords = new Dictionary<string, int>();
        public static HashSet<string> StoredCertificates = new HashSet<string>();
        public static Dictionary<string, int> StateErrors = new Dictionary<string, int>();
        public static Dictionary<string, ObjectState> States = new Dictionary<string, ObjectState>();
        public static Dictionary<string, SslRecord> HttpSys = new Dictionary<string, SslRecord>();

        public static void Reset()
        {
            Version++;
            OpenManagers = CommitAttempts = Commits = ConflictsToCome = SharingViolationsToCome = CommitHResult = 0;
            DefaultFtpHash = IntruderSite = IntruderBinding = "";
            Sites.Clear(); Starts.Clear(); StaysStopped.Clear(); StopsOnCommit.Clear(); BrokenHashes.Clear();
            RefusedBindings.Clear(); RefusedRecords.Clear(); StoredCertificates.Clear(); StateErrors.Clear(); States.Clear(); HttpSys.Clear();
        }

        public static void AddSite(long id, string name, bool started)
        {
            Sites.Add(new SiteRecord { Id = id, Name = name });
            States[name] = started ? ObjectState.Started : ObjectState.Stopped;
        }

        public static void AddBinding(string site, string protocol, string information, int sslFlags, bool dsMapper)
        {
            var values = new SortedDictionary<string, object>
            {
                { "protocol", protocol }, { "bindingInformation", information }
            };
            if (sslFlags != 0) values["sslFlags"] = (uint)sslFlags;
            if (dsMapper) values["isDsMapperEnabled"] = true;
            Find(site).Bindings.Add(values);
        }

        public static void SetRecord(string endpoint, byte[] hash, string store)
        {
            HttpSys[endpoint] = new SslRecord { Hash = hash, Store = store };
        }

        public static void SetFtp(string site, string hash)
        {
            Find(site).FtpHash = hash;
        }

        public static string EndpointOf(string information, SslFlags flags)
        {
            int hostAt = information.LastIndexOf(':');
            int portAt = information.LastIndexOf(':', hostAt - 1);
            string ip = information.Substring(0, portAt);
            string port = information.Substring(portAt + 1, hostAt - portAt - 1);
            if ((flags & SslFlags.CentralCertStore) != 0) return port;
            if ((flags & SslFlags.Sni) != 0) return (information.Substring(hostAt + 1) + ":" + port).ToLowerInvariant();
            return (ip == "*" || ip == "" ? "0.0.0.0" : ip.ToLowerInvariant()) + ":" + port;
        }

        internal static void CheckCertificate(byte[] hash)
        {
            if (hash == null || StoredCertificates.Count == 0) return;
            if (!StoredCertificates.Contains(BitConverter.ToString(hash).Replace("-", "")))
                throw new COMException(
                    "A specified logon session does not exist. It may already have been terminated.",
                    unchecked((int)0x80070520));
        }

        internal static void FailIfInjected(string information)
        {
            if (RefusedBindings.Contains(information))
                throw new COMException("The parameter is incorrect", unchecked((int)0x80070057));
        }

        internal static void FailStateIfInjected(string name)
        {
            int left;
            if (!StateErrors.TryGetValue(name, out left) || left == 0) return;
            StateErrors[name] = left - 1;
            throw new COMException(
                "The object identifier does not represent a valid object.", unchecked((int)0x800710D8));
        }

        internal static void FailCommitIfInjected()
        {
            if (SharingViolationsToCome > 0)
            {
                SharingViolationsToCome--;
                throw new COMException(
                    "The process cannot access the file because it is being used by another process.",
                    unchecked((int)0x80070020));
            }
            if (CommitHResult != 0) throw new COMException("An injected failure", CommitHResult);
        }

        internal static void RunIntrusion()
        {
            if (IntruderBinding == "") return;
            AddBinding(IntruderSite, "https", IntruderBinding, 1, false);
            IntruderBinding = "";
        }

        // The configuration, which the real library writes before it gives http.sys one certificate.
        internal static void Accept(ServerManager manager)
        {
            var before = Sites;
            Sites = new List<SiteRecord>();
            foreach (var site in manager.Sites)
            {
                var old = before.Find(other => other.Name == site.Name);
                var record = new SiteRecord { Id = site.Id, Name = site.Name, FtpHash = old == null ? "" : old.FtpHash };
                foreach (var binding in site.Bindings)
                    record.Bindings.Add(binding.Values);
                Sites.Add(record);
                if (!States.ContainsKey(site.Name)) States[site.Name] = ObjectState.Started;
                if (StopsOnCommit.Contains(site.Name)) States[site.Name] = ObjectState.Stopped;
            }
            Version++;
            Commits++;
        }

        internal static void Apply(CertificateChange change)
        {
            if (change.Removal)
            {
                HttpSys.Remove(change.Endpoint);
                return;
            }
            if (change.Hash == null) return;
            CheckCertificate(change.Hash);
            int code;
            if (RefusedRecords.TryGetValue(change.Endpoint, out code)) throw new COMException("An injected refusal", code);
            SetRecord(change.Endpoint, change.Hash, change.Store);
        }

        private static SiteRecord Find(string name)
        {
            return Sites.Find(site => site.Name == name);
        }
    }
}
