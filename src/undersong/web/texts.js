// Every text that people read on this page, in one table a language. A text with "|" has a form for
// one and one for many; {name} stands for a value.

import { recall, remember } from "./memory.js";

const ENGLISH = {
  language: "Deutsch",
  skip: "Skip to the search", pages: "Pages", report: "How good is it?", reportShort: "Report", playlist: "Playlist",
  surprise: "Surprise me with an unlinked artist", surpriseShort: "Surprise me",
  question: "What is similar to …", name: "Name", placeholder: "a name", searchFor: "Search for",
  artists: "artists", tracks: "tracks", suggestions: "Suggestions",
  drop: "What sounds like this? Drop a song, or choose one", dropping: "Drop it here",
  mapOf: "Map of {n}", map: "Map", everything: "Map of everything",
  mapHelp: "Arrow keys move the map, plus and minus zoom, 0 shows all of it, Enter opens what is in the middle.",
  zoom: "Zoom", closer: "Closer", farther: "Farther", whole: "The whole map", inTheMiddle: "{name} in the middle",
  legend: "Legend",
  artist: "artist", track: "track", nArtists: "{n} artist|{n} artists", nTracks: "{n} track|{n} tracks",
  unlinked: "unlinked", counts: "{all}. Nobody has linked {n} of them yet: they are {unlinked}.",
  countsNone: "{all}. Nobody has linked any of them yet.", countsAll: "{all}, all of them linked.",
  refreshed: "Last refreshed on {when}.",
  searching: "Searching {what}", nothingCalled: "Nothing here is called “{text}”, or nearly so.",
  nSuggestions: "{n} suggestion, arrow keys choose|{n} suggestions, arrow keys choose",
  describe: "Described in words: “{text}”", describedKind: "Described in words",
  loading: "Leafing …", close: "Close", showMap: "Show the map", trail: "Where you came from",
  links: "{n} known link|{n} known links", noLinks: "No known links yet",
  more: "More popular than {share} % of {what}.", less: "Less popular than {share} % of {what}.",
  unknown: "We know little about {name}: {lacking}.", rests: "These answers rest on {sources}.",
  onAlbum: "on {album}", by: "by {artist}", and: "and", decade: "{year}s",
  lackLinks: "no links", lackListeners: "no listeners", lack: "no {what}",
  tagCount: "{n} tag|{n} tags", listenerCount: "{n} listener|{n} listeners",
  sourceAudio: "sound", sourceListeners: "listeners", sourceTags: "tags", sourceLinks: "shared links",
  sourceRegion: "country", sourcePopularity: "popularity", howItSounds: "how the music sounds",
  elsewhere: "Elsewhere",
  about: "About", tune: "Tune", tuneN: "Tune ({n})", similar: "Similar", moreAnswers: "More",
  firstIs: "{n} answer, the first is {name}|{n} answers, the first is {name}",
  sure: "{n} % sure", alike: "{n} % alike", linked: "linked",
  sureMeans: "“Sure” is the chance that somebody who looked at both would list them together.",
  because: "because of {reasons}", from: "close to {names}", why: "Why?", whyName: "Why? {name}",
  moreName: "More about {name}", moreOf: "More",
  noAnswers: "Nothing similar matches these filters.", reset: "Reset filters",
  popularityUnknown: "Popularity is unknown here, so “Dig deeper” hides everyone.",
  toBoth: "What is similar to both?", path: "The path from {a} to {b}", pathTitle: "From {a} to {b}",
  noPath: "No path leads from one to the other.", pathNote: "Each step is close to the one before.",
  combine: "Combine with …", combining: "Now search for another name: the answers will be close to both.",
  remove: "Remove {name}",
  starting: "starting point", score: "score", shares: "What speaks for it",
  knownAsked: "only known for {name}", knownAnswered: "only known for {name}",
  details: "Details", statedBy: "They are known to be similar: {who}.", bothLinked: "Both are linked to {names}.",
  tagsInCommon: "Tags in common: {tags}.", tagOf: "(of {n})", nMore: "{n} more",
  sameListeners: "Played by the same {n} listener, of {a} and {b}.|Played by the same {n} listeners, of {a} and {b}.",
  closestTracks: "The tracks that sound most alike: {a} and {b}.",
  dig: "Dig deeper", digHelp: "Leaves out the most popular.", everyone: "everyone", leastKnown: "{n} % least popular",
  tail: "Ignore known links", tailHelp: "Left: unlinked artists last, as on most lists. Middle: fair. Right: links do not count, only sound, tags and plays.",
  tailLess: "unlinked last, {n} %", tailMore: "{n} %", fair: "fair", asLists: "as most lists", asIf: "fully",
  variety: "Variety", varietyHelp: "Answers that differ from each other.", off: "off", share: "{n} %",
  genre: "Genre", tag: "Tag", region: "Country", since: "From", until: "To", any: "any", onlyUnlinked: "Only unlinked",
  onePerArtist: "One per artist", controls: "Tune the answers",
  nItems: "{all}, the best known first", ofThese: "{shown} of {all}, the best known first", listOf: "List", unlinkedList: "Nobody has linked them yet",
  notHere: "Not here", noService: "No answer from the service",
  noServiceText: "The service does not answer. It may have stopped, or the network is gone.",
  notJson: "The service answered something that is not JSON (status {n}).", status: "Status {n}.", again: "Try again",
  soundsLike: "What sounds like", soundNote: "Only its sound was compared, and nothing of the file was kept.",
  listening: "Listening …", notKept: "The file was not kept; drop it here again to hear what is like it.",
  tooLarge: "The file has {n} MB, but 20 MB is the most; half a minute of it is enough.",
  private: "This page is private", privateText: "Enter the token of this service. Whoever started it has it: it is in the file that the service named at its start.",
  wrongToken: "That is another token.", token: "Token", open: "Open",
  play: "Play {name}", playAll: "Play all", player: "Player", previous: "Previous", next: "Next", stop: "Close the player",
  queue: "Queue ({n})", playing: "Now playing {name}", cannotPlay: "{name} cannot be played here",
  add: "Add {name} to the playlist", added: "{name} added, {n} in the playlist",
  taken: "{name} taken out, {n} in the playlist", playlistN: "Playlist ({n})", playlistName: "Name of the playlist", myPlaylist: "My playlist",
  up: "Move {name} up", down: "Move {name} down", moved: "{name} is now number {n}",
  grow: "Add {n} songs that fit", grown: "{n} song added|{n} songs added",
  save: "Save as {form}", clear: "Empty the playlist", cleared: "The playlist is empty", playlistNote: "Kept in this browser alone.",
  reportTitle: "How good is this model?", back: "Back to the music", methods: "Method by method",
  hidden: "All links of {n} {what} were hidden from the model. For {ours} of them the first {k} answers contain one of these links; by chance, for {chance}.",
  fewToJudge: "{n} are too few to judge: below {least}, differences are luck.",
  foundShare: "The other way round, {what} with known links find {ours} % of the hidden {what} that belong to them among {k} answers; by chance, {chance} %.",
  nobodyFinds: "{ours} % of the hidden {what} are among the first answers of nobody who should find them.",
  noGrades: "Known links are what people wrote down. An answer that nobody wrote down may still be right, so use these numbers to compare methods, not as grades.",
  howAsked: "Test", whoAsks: "Whose answers", measured: "What is measured", queries: "{all} ask; {n} may be an answer.",
  method: "method", above: "above {name}", tableOfMethods: "Table of methods", tableOfExposure: "Table of who is shown",
  exposure: "Who is shown, and who never is",
  exposureNote: "A method can be accurate and still show everyone the same few; hubness measures that.",
  trust: "How far to trust “{sure} sure”",
  trustNote: "How sure an answer is: the chance that somebody who looked at both would list the pair. Linked and unlinked answers are measured apart, so that nobody is less sure because nobody has listed it.",
  trustBest: "The surest {n} {group} answers to {what} that were hidden from the model were {sure} sure on average; people had written down {right} of them. Each disc is a group of answers, larger where there are more. On the dashed line it is right as often as it is sure.",
  howSure: "how sure", howRight: "how often right", sureRight: "{sure} sure, {right} right", discTitle: "{n} answers: {sure} sure, {right} right",
  groupLinked: "linked", groupUnlinked: "unlinked",
  withheld: "Withheld from all models: {fields}.",
  resamples: "95 % confidence intervals from {n} bootstrap samples of the test {what}. “undersong report” writes all of it as one file.",
  popularityBy: "Popularity is measured {popularity}.",
  m_ndcg: "how high known links are among the answers; 1 if all of them come first", m_recall: "the share of the known links that the list holds",
  m_hit: "the share of lists with at least one known link", m_map: "how exact the list is wherever it holds a known link, on average",
  m_consistent: "the share of genre, country and popularity that an answer has in common; the models read these",
  m_strict_consistent: "the share of answers with all of these in common", m_withheld_consistent: "what answers have in common in fields that no model reads",
  m_coverage: "the share of all that is an answer to anybody", m_gini: "how unequally often each is shown: 0 alike, 1 one takes all",
  m_hubness: "how strongly a few crowd everybody's list; 0 not at all", m_nobodys_neighbour: "the share that is in nobody's list",
  m_long_tail_share: "the share of the answers that nobody has linked", m_popularity: "how popular the answers are, among all",
};

let table = ENGLISH;

/** Language of the page: what a reader chose, else what the browser asks for, else English. */
export const language = () => (table === ENGLISH ? "en" : "de");

/** Load the texts of the reader's language. */
export async function readTexts() {
  const wanted = recall("language") ?? navigator.language.slice(0, 2);
  if (wanted === "de") table = (await import("./texts-de.js")).GERMAN;
  document.documentElement.lang = language();
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  for (const name of ["aria-label", "placeholder"]) {
    for (const node of document.querySelectorAll(`[data-${name}]`)) {
      node.setAttribute(name, text(node.getAttribute(`data-${name}`)));
    }
  }
}

/** Change to the other language. */
export function turnLanguage() {
  remember("language", language() === "en" ? "de" : "en");
  location.reload();
}

/** A text of the table with its values; the form for many unless n is 1. */
export const text = (key, values = {}) => phrase(key, values).join("");

/** Whether there is such a text. */
export const knows = (key) => key in ENGLISH;

/** The same as a list, so that values may be elements. */
export function phrase(key, values = {}) {
  const [one, many = one] = (table[key] ?? ENGLISH[key]).split("|");
  return (values.n === 1 ? one : many).split(/\{(\w+)\}/)
    .map((part, at) => (at % 2 ? shown(values[part]) : part)).flat().filter((part) => part !== "");
}

const shown = (value) => (typeof value === "number" ? number(value) : value);

export const number = (value) => value.toLocaleString(language());

/** a, b and c; of texts or elements. */
export function listing(words) {
  return words.flatMap((word, at) => {
    if (!at) return [word];
    return [at === words.length - 1 ? ` ${text("and")} ` : ", ", word];
  });
}

/** A country by its name, whatever else as it is. */
export function place(code) {
  if (!/^[A-Z]{2}$/.test(code)) return code;
  try {
    return new Intl.DisplayNames([language()], { type: "region" }).of(code);
  } catch {
    return code;
  }
}

/** 12 artists, 1 track. */
export const count = (n, kind) => text(kind === "track" ? "nTracks" : "nArtists", { n });
