// ServerManager and its sites: a private copy of the committed configuration until CommitChanges, which fails with
// FileLoadException when another program committed in between, as the real one does.
using System;
using System.Collections;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using Certcast.Stub;

namespace Microsoft.Web.Administration
{
    public enum ObjectState { Starting = 0, Started = 1, Stopping = 2, Stopped = 3, Unknown = 4 }

    public sealed class Site : ConfigurationElement
    {
        private static readonly Dictionary<string, object> FtpSslSchema = new Dictionary<string, object>
        {
            { "serverCertHash", "" }, { "serverCertStoreName", "" }
        };

        internal Site(ServerManager manager, SiteRecord record)
            : base(new Dictionary<string, object>(), new SortedDictionary<string, object>())
        {
            Id = record.Id;
            Name = record.Name;
            Bindings = new BindingCollection(manager, record.Bindings);
            AddFtp(this, record.FtpHash);
        }

        public long Id { get; private set; }
        public string Name { get; private set; }
        public BindingCollection Bindings { get; private set; }

        public ObjectState State
        {
            get
            {
                World.FailStateIfInjected(Name);
                return World.States[Name];
            }
        }

        public ObjectState Start()
        {
            World.Starts.Add(Name);
            if (World.StaysStopped.Contains(Name)) return World.States[Name];
            World.States[Name] = ObjectState.Started;
            return ObjectState.Started;
        }

        public ObjectState Stop()
        {
            World.States[Name] = ObjectState.Stopped;
            return ObjectState.Stopped;
        }

        internal static void AddFtp(ConfigurationElement parent, string hash)
        {
            var values = new SortedDictionary<string, object>();
            if (!string.IsNullOrEmpty(hash)) values["serverCertHash"] = hash;
            parent.AddChild("ftpServer", Plain()).AddChild("security", Plain())
                .AddChild("ssl", new ConfigurationElement(FtpSslSchema, values));
        }

        private static ConfigurationElement Plain()
        {
            return new ConfigurationElement(new Dictionary<string, object>(), new SortedDictionary<string, object>());
        }
    }

    public sealed class SiteDefaults : ConfigurationElement
    {
        internal SiteDefaults() : base(new Dictionary<string, object>(), new SortedDictionary<string, object>())
        {
            Site.AddFtp(this, World.DefaultFtpHash);
        }
    }

    public sealed class SiteCollection : IEnumerable<Site>
    {
        private readonly List<Site> sites = new List<Site>();
        private readonly ServerManager manager;

        internal SiteCollection(ServerManager manager)
        {
            this.manager = manager;
        }

        public int Count { get { return sites.Count; } }

        public Site this[string name]
        {
            get { return sites.Find(site => string.Equals(site.Name, name, StringComparison.OrdinalIgnoreCase)); }
        }

        public IEnumerator<Site> GetEnumerator() { return sites.GetEnumerator(); }
        IEnumerator IEnumerable.GetEnumerator() { return sites.GetEnumerator(); }

        public Site Add(string name, string bindingProtocol, string bindingInformation, string physicalPath)
        {
            manager.CheckUsable();
            if (this[name] != null) throw new COMException("Cannot add duplicate site", unchecked((int)0x800700B7));
            long id = 1;
            foreach (var other in sites) id = Math.Max(id, other.Id + 1);
            var site = new Site(manager, new SiteRecord { Id = id, Name = name });
            site.Bindings.Add(bindingInformation, bindingProtocol);
            sites.Add(site);
            return site;
        }

        public void Remove(Site site)
        {
            manager.CheckUsable();
            if (!sites.Remove(site)) throw new ArgumentException("The element is not in the collection");
        }

        internal void Load(Site site)
        {
            sites.Add(site);
        }
    }

    public sealed class ServerManager : IDisposable
    {
        private readonly long version = World.Version;
        private readonly List<CertificateChange> certificateChanges = new List<CertificateChange>();
        private bool disposed;

        public ServerManager()
        {
            World.OpenManagers++;
            Sites = new SiteCollection(this);
            foreach (var record in World.Sites) Sites.Load(new Site(this, record));
            SiteDefaults = new SiteDefaults();
        }

        public SiteCollection Sites { get; private set; }
        public SiteDefaults SiteDefaults { get; private set; }

        public void CommitChanges()
        {
            CheckUsable();
            World.CommitAttempts++;
            if (World.ConflictsToCome > 0)
            {
                World.ConflictsToCome--;
                World.Version++;
                World.RunIntrusion();
            }
            if (World.Version != version)
                throw new FileLoadException("Cannot commit configuration changes because the file has changed on disk");
            World.FailCommitIfInjected();
            World.Accept(this);
            var queued = certificateChanges.ToArray();
            certificateChanges.Clear();  // as the real one: after an exception the rest is neither applied nor queued
            foreach (var change in queued) World.Apply(change);
        }

        public void Dispose()
        {
            if (!disposed) World.OpenManagers--;
            disposed = true;
        }

        internal void Later(CertificateChange change)
        {
            certificateChanges.Add(change);
        }

        internal void Drop(Binding element)
        {
            certificateChanges.RemoveAll(change => change.Element == element);
        }

        internal void CheckUsable()
        {
            if (disposed) throw new ObjectDisposedException("ServerManager");
        }
    }
}
